//! A cache that survives (bug class: a start that needs help, a digest that hangs, a tag that is forgotten, a file that
//! only looks whole).

mod faults;
mod killed;
mod random;
