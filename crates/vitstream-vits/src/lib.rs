//! The VITS network: hyper-parameters, weights, blocks, and the graphs they emit.
