"""The whole loop on real handwritten digits: trace, evaluate, log a fortnight, monitor, label, re-evaluate."""
