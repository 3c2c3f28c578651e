//! The encryption of packets: AES-256 with a key from a passphrase, in CBC and in the other modes
//! that fwknop's clients offer.

use aes::cipher::block_padding::{Padding, Pkcs7};
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, KeyInit, KeyIvInit};
use aes::{Aes256, Block};
use md5::{Digest, Md5};
use zeroize::Zeroizing;

use super::{OMITTED, base64};

/// Length of a block, in bytes.
const BLOCK: usize = 16;
/// The beginning of the binary form.
const MAGIC: &[u8; 8] = b"Salted__";
/// Length of the salt, in bytes.
pub(super) const SALT_LENGTH: usize = 8;

/// A mode of encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Cbc,
    Ecb,
    Ofb,
    Ctr,
}

/// The modes that are recognised in order to report them.
pub(super) const OTHER_MODES: [Mode; 3] = [Mode::Ecb, Mode::Ofb, Mode::Ctr];

/// The decoded text of a packet.
pub(super) struct Encrypted(Zeroizing<Vec<u8>>);

impl Encrypted {
    /// Decodes a text, which is without its omitted beginning. `None` if it is not the text of a whole
    /// number of blocks, and of one at least.
    pub(super) fn decode(text: &[u8]) -> Option<Self> {
        let bytes = base64::decode(&[OMITTED, text].concat())?;
        let blocks = bytes.strip_prefix(MAGIC)?.get(SALT_LENGTH..)?;
        (!blocks.is_empty() && blocks.len() % BLOCK == 0).then_some(Self(bytes))
    }

    /// Encrypts a plain text in the mode CBC, and returns the text without its omitted beginning.
    pub(super) fn encrypt(plain: &[u8], passphrase: &[u8], salt: [u8; SALT_LENGTH]) -> String {
        let secret = Secret::derive(passphrase, &salt);
        let cipher = cbc::Encryptor::<Aes256>::new((&*secret.key).into(), (&*secret.iv).into());
        let blocks = cipher.encrypt_padded_vec::<Pkcs7>(plain);
        let text = base64::encode(&[&MAGIC[..], &salt, &blocks].concat());
        text.get(OMITTED.len()..).unwrap_or_default().to_owned()
    }

    /// Returns the plain text. `None` if its padding is not valid.
    pub(super) fn decrypt(&self, passphrase: &[u8], mode: Mode) -> Option<Zeroizing<Vec<u8>>> {
        let (salt, blocks) = self.0.get(MAGIC.len()..)?.split_first_chunk::<SALT_LENGTH>()?;
        let secret = Secret::derive(passphrase, salt);
        let mut plain = Zeroizing::new(blocks.to_vec());
        let (blocks, _) = Block::slice_as_chunks_mut(&mut plain);
        let (key, iv) = (&(*secret.key).into(), &(*secret.iv).into());
        match mode {
            Mode::Cbc => cbc::Decryptor::<Aes256>::new(key, iv).decrypt_blocks(blocks),
            Mode::Ecb => Aes256::new(key).decrypt_blocks(blocks),
            Mode::Ofb => secret.apply_stream(blocks, |_, stream| stream),
            Mode::Ctr => secret.apply_stream(blocks, |counter, _| counter.wrapping_add(1)),
        }
        let length = Pkcs7::unpad_blocks(blocks).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

/// What a passphrase and a salt determine.
struct Secret {
    key: Zeroizing<[u8; 32]>,
    iv: Zeroizing<[u8; BLOCK]>,
}

impl Secret {
    /// The function `EVP_BytesToKey` of OpenSSL with MD5 and one round.
    fn derive(passphrase: &[u8], salt: &[u8; SALT_LENGTH]) -> Self {
        let round = |previous: &[u8]| -> Zeroizing<[u8; BLOCK]> {
            let digest = Md5::new().chain_update(previous).chain_update(passphrase).chain_update(salt);
            Zeroizing::new(digest.finalize().into())
        };
        let first = round(&[]);
        let second = round(&*first);
        let mut key = Zeroizing::new([0; 32]);
        key[..BLOCK].copy_from_slice(&*first);
        key[BLOCK..].copy_from_slice(&*second);
        Self { key, iv: round(&*second) }
    }

    /// Adds the encrypted inputs to the blocks. The first input is the initialization vector; `next`
    /// returns the next one from an input and its encryption.
    fn apply_stream(&self, blocks: &mut [Block], next: impl Fn(u128, u128) -> u128) {
        let cipher = Aes256::new((&*self.key).into());
        let mut input = u128::from_be_bytes(*self.iv);
        for block in blocks {
            let mut stream = input.to_be_bytes().into();
            cipher.encrypt_block(&mut stream);
            block.iter_mut().zip(&stream).for_each(|(byte, stream)| *byte ^= stream);
            input = next(input, u128::from_be_bytes(stream.into()));
        }
    }
}
