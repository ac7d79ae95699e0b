"""What commands for people share: width and colours, columns, help, -o and --config."""
