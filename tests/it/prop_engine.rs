//! Random graphs with random ends against an oracle that knows nothing of the engine.
