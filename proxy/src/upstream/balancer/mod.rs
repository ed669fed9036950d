//! Which of the available endpoints? One algorithm a file.
