//! Writes a file tree as an uncompressed EROFS image
