"""What is written for others: netboot directories and unified kernel images."""
