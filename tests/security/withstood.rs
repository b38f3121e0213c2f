//! What earlier attacks did not get through, and must not from now on.
