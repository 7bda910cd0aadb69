//! What only a kernel can show: steering, full socket buffers.
