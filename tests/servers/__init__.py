"""What the servers of tests are made of."""
