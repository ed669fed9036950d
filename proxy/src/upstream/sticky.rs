//! Which endpoint did this client have before?
