//! What is of the operating system. stub
