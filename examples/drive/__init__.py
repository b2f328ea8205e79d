"""Road scenes seen by a ray-cast LiDAR, with the truth, and a small pillar detector trained on them."""
