//! What changes in a head when it passes: hop-by-hop and forwarded fields.
