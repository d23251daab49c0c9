"""What all other packages use: errors, files, pictures, codecs, moments, random keys, devices."""
