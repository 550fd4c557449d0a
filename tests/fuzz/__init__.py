"""What holds of every reader of bytes from outside, whatever the bytes: for hypothesis, and for a fuzzer."""
