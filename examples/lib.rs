//! Small programs on a dmaring ring, one idea each: see the files beside this one.
