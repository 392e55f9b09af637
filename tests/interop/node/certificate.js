// TLS for both ends: the partner's own certificate by node-forge (RSA), and its trust in the one key that a card names.

import crypto from 'node:crypto';
import { once } from 'node:events';
import tls from 'node:tls';
import forge from 'node-forge';

/** `sha256/` and the digest of the public key, as HPKP had it and cards carry it. */
export function pinOf(certificate) {
  const spki = certificate.publicKey.export({ type: 'spki', format: 'der' });
  return `sha256/${crypto.createHash('sha256').update(spki).digest('base64')}`;
}

/** Options of a TLS client that talks to nobody but the holder of the pinned key. */
export async function pinned(address, pin) {
  const [host, port] = address.split(':');
  // The first connection only looks: nothing is said on it.
  const socket = tls.connect({ host, port: Number(port), rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  const certificate = socket.getPeerX509Certificate();
  socket.destroy();
  const found = pinOf(certificate);
  if (found !== pin) throw new Error(`the daemon's key has the pin ${found}, its card says ${pin}`);
  return {
    ca: [certificate.toString()],
    minVersion: 'TLSv1.2',
    // Node calls this once the chain is good; name and key are checked on each full handshake.
    checkServerIdentity(name, peer) {
      const again = pinOf(new crypto.X509Certificate(peer.raw));
      if (again !== pin) return new Error(`another key, with the pin ${again}`);
      return tls.checkServerIdentity(host, peer);
    },
  };
}

/** A self-signed certificate for loopback: `{ key, cert, pin }`. */
export function selfSigned() {
  const { privateKey, publicKey } = crypto.generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  const certificate = forge.pki.createCertificate();
  certificate.publicKey = forge.pki.publicKeyFromPem(publicKey);
  certificate.serialNumber = `01${crypto.randomBytes(8).toString('hex')}`;
  const day = 86_400_000;
  certificate.validity.notBefore = new Date(Date.now() - day);
  certificate.validity.notAfter = new Date(Date.now() + 30 * day);
  const name = [{ name: 'commonName', value: 'partner.node.example' }];
  certificate.setSubject(name);
  certificate.setIssuer(name);
  certificate.setExtensions([{ name: 'subjectAltName', altNames: [{ type: 7, ip: '127.0.0.1' }] }]);
  certificate.sign(forge.pki.privateKeyFromPem(privateKey), forge.md.sha256.create());
  const cert = forge.pki.certificateToPem(certificate);
  return { key: privateKey, cert, pin: pinOf(new crypto.X509Certificate(cert)) };
}
