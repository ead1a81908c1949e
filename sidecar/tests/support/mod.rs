pub mod doubles;
