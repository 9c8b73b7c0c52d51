"""What ours is compared with. Each module is one server around the workload that the environment names."""
