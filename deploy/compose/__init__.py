"""What compose.yaml runs besides the images' own programs."""
