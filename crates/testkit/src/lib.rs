//! Boots the real server against a scriptable provider.
