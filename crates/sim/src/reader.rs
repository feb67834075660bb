//! Bytes read one part after the other.

/// Bytes that are left to be read.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or("cut off")?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.bytes(N)?.try_into().map_err(|_| "cut off".to_owned())
    }

    /// Reads a number whose bytes this takes, such as `i32::from_be_bytes`.
    pub(crate) fn number<const N: usize, T>(
        &mut self,
        from: fn([u8; N]) -> T,
    ) -> Result<T, String> {
        self.array().map(from)
    }
}
