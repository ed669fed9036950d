//! What one generation of the config has become.
