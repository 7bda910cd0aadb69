//! Load and measuring tools for bootstorm.
