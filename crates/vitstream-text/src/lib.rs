//! x

pub mod clauses;
