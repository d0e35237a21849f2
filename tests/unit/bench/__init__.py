"""What measures the speed (bench/)."""
