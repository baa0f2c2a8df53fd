// oidc-provider as make bench measures it (docs/peers.md says why each setting is
// as it is). One confidential client; the secret comes by the environment, the
// signing keys are made at the start. It prints one JSON line when it is ready.
import * as crypto from 'node:crypto';
import * as http from 'node:http';

import Provider from 'oidc-provider';

const clientID = 'bench';
const clientSecret = process.env.PEER_CLIENT_SECRET;
if (!clientSecret) {
  console.error('PEER_CLIENT_SECRET is empty: set it to the secret of client "bench"');
  process.exit(2);
}

// A token for one of these resources is a JWT, signed with the algorithm named
// here; a token for no resource is opaque.
const algorithms = new Map([
  ['urn:keyraft:bench:es256', 'ES256'],
  ['urn:keyraft:bench:rs256', 'RS256'],
]);
const lifetime = 300; // seconds

function signingKey(type, options, alg) {
  const { privateKey } = crypto.generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg, kid: alg };
}

// Everything that a token server for machines doesn't need is off.
const configuration = {
  clients: [{
    client_id: clientID,
    client_secret: clientSecret,
    token_endpoint_auth_method: 'client_secret_post',
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    scope: 'read',
    id_token_signed_response_alg: 'ES256',
  }],
  jwks: {
    keys: [
      signingKey('ec', { namedCurve: 'P-256' }, 'ES256'),
      signingKey('rsa', { modulusLength: 2048 }, 'RS256'),
    ],
  },
  cookies: { keys: [crypto.randomBytes(32).toString('base64url')] },
  scopes: ['read'],
  ttl: { ClientCredentials: lifetime },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo(_ctx, resource) {
        const alg = algorithms.get(resource);
        if (!alg) {
          throw new Error(`resource ${resource} is none of ${[...algorithms.keys()].join(', ')}`);
        }
        return {
          scope: 'read',
          audience: resource,
          accessTokenTTL: lifetime,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg } },
        };
      },
    },
    rpInitiatedLogout: { enabled: false },
    userinfo: { enabled: false },
  },
};

const server = http.createServer();
server.keepAliveTimeout = 120_000; // milliseconds; Node's 5 s would close idle connections between rounds
server.listen(0, '127.0.0.1', () => {
  const url = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(url, configuration);
  provider.on('server_error', (_ctx, err) => console.error(err));
  server.on('request', provider.callback());
  console.log(JSON.stringify({ msg: 'ready', url }));
});

process.on('SIGTERM', () => {
  server.close(() => process.exit(0));
  server.closeAllConnections();
});
