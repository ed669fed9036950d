//! May it pass, and how?
