"""What everything else stands on: errors, files, pictures, random keys, devices, units."""
