// The two libraries behind one shape, so that a suite says once what must hold: discover
// finds the server, login goes from the authorization request to checked tokens.

import assert from 'node:assert/strict'
import * as oauth from 'oauth4webapi'
import * as oidc from 'openid-client'
import { address, redirect, signIn } from '../lib/keyraft.mjs'

const insecure = { [oauth.allowInsecureRequests]: true } // the server is one of loopback
const scope = 'openid profile email offline_access'

// pair is the private key and the public one as a key set, for a client that proves
// itself by a key.
export async function pair(alg) {
  const keys = await oauth.generateKeyPair(alg, { extractable: true })
  const jwk = { ...(await crypto.subtle.exportKey('jwk', keys.publicKey)), kid: `${alg}-1`, use: 'sig', alg }
  for (const name of ['key_ops', 'ext']) delete jwk[name]
  return { key: keys.privateKey, kid: jwk.kid, jwks: { keys: [jwk] } }
}

// codeOf is the error code in what a library throws: of a body, of a challenge or of an
// answer that came through the browser.
export function codeOf(err) {
  const cause = err.cause ?? err
  return err.error ?? cause.error ?? cause[0]?.parameters?.error ?? cause.get?.('error')
}

// refused checks what a library throws when the server refuses.
export const refused = (code) => (err) => {
  assert.equal(codeOf(err), code, `${err.stack}`)
  return true
}

const openidClient = {
  name: 'openid-client',
  methods: {
    client_secret_basic: (c) => oidc.ClientSecretBasic(c.client_secret),
    client_secret_post: (c) => oidc.ClientSecretPost(c.client_secret),
    client_secret_jwt: (c) => oidc.ClientSecretJwt(c.client_secret),
    private_key_jwt: (c) => oidc.PrivateKeyJwt({ key: c.key, kid: c.kid }),
    none: () => oidc.None(),
  },
  // discover fetches the metadata; the result is what the other functions take.
  async discover(client) {
    const metadata = { ...client }
    for (const name of ['client_secret', 'key', 'kid']) delete metadata[name]
    const config = await oidc.discovery(new URL(address), client.client_id, metadata, this.methods[client.token_endpoint_auth_method](client), {
      execute: [oidc.allowInsecureRequests, oidc.enableNonRepudiationChecks], // signatures are checked too, though TLS would do
    })
    return { config, client, as: config.serverMetadata() }
  },
  async login(at, user, { par = false, dpop, mode, parameters = {}, jar } = {}) {
    const DPoP = dpop && oidc.getDPoPHandle(at.config, dpop)
    const verifier = oidc.randomPKCECodeVerifier()
    const nonce = oidc.randomNonce()
    const state = oidc.randomState()
    const asked = {
      redirect_uri: redirect, scope, code_challenge: await oidc.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256', nonce, state, ...parameters,
    }
    const url = par ? await oidc.buildAuthorizationUrlWithPAR(at.config, asked, { DPoP }) : oidc.buildAuthorizationUrl(at.config, asked)
    const back = await signIn(url, user, { jar })
    const checks = { pkceCodeVerifier: verifier, expectedNonce: nonce, expectedState: state, idTokenExpected: true }
    const tokens = await oidc.authorizationCodeGrant(at.config, back, checks, undefined, { DPoP })
    return { back, tokens, claims: tokens.claims(), DPoP, again: () => oidc.authorizationCodeGrant(at.config, back, checks, undefined, { DPoP }) }
  },
  refresh: (at, token, { DPoP } = {}) => oidc.refreshTokenGrant(at.config, token, undefined, { DPoP }),
  userinfo: (at, login) => oidc.fetchUserInfo(at.config, login.tokens.access_token, login.claims.sub, { DPoP: login.DPoP }),
  introspect: (at, token) => oidc.tokenIntrospection(at.config, token),
  revoke: (at, token) => oidc.tokenRevocation(at.config, token),
  async register(metadata, initialAccessToken, key = {}) {
    // Where nothing is said the library sends the secret in the form, whatever it registered.
    const method = this.methods[metadata.token_endpoint_auth_method ?? 'client_secret_basic']
    const config = await oidc.dynamicClientRegistration(new URL(address), metadata, method(key), { initialAccessToken, execute: [oidc.allowInsecureRequests, oidc.enableNonRepudiationChecks] })
    const client = config.clientMetadata()
    return { config, client, as: config.serverMetadata() }
  },
  clientCredentials: (at, parameters) => oidc.clientCredentialsGrant(at.config, parameters),
  dpopKeys: (alg) => oidc.randomDPoPKeyPair(alg),
}

const webapi = {
  name: 'oauth4webapi',
  methods: {
    client_secret_basic: (c) => oauth.ClientSecretBasic(c.client_secret),
    client_secret_post: (c) => oauth.ClientSecretPost(c.client_secret),
    client_secret_jwt: (c) => oauth.ClientSecretJwt(c.client_secret),
    private_key_jwt: (c) => oauth.PrivateKeyJwt({ key: c.key, kid: c.kid }),
    none: () => oauth.None(),
  },
  async metadata(algorithm) {
    const issuer = new URL(address)
    return oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm, ...insecure }))
  },
  async discover(client) {
    return { as: await this.metadata('oauth2'), client, auth: this.methods[client.token_endpoint_auth_method](client) }
  },
  // withNonce asks once more with the nonce that the server gave (RFC 9449 §8).
  async withNonce(request, process) {
    try {
      return await process(await request())
    } catch (err) {
      if (!oauth.isDPoPNonceError(err)) throw err
      return process(await request())
    }
  },
  async login(at, user, { par = false, dpop, parameters = {}, jar } = {}) {
    const { as, client, auth } = at
    const DPoP = dpop && oauth.DPoP(client, dpop)
    const verifier = oauth.generateRandomCodeVerifier()
    const nonce = oauth.generateRandomNonce()
    const state = oauth.generateRandomState()
    let asked = new URLSearchParams({
      client_id: client.client_id, redirect_uri: redirect, response_type: 'code', scope,
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256', nonce, state, ...parameters,
    })
    if (par) {
      const pushed = await this.withNonce(
        () => oauth.pushedAuthorizationRequest(as, client, auth, asked, { DPoP, ...insecure }),
        (answer) => oauth.processPushedAuthorizationResponse(as, client, answer))
      asked = new URLSearchParams({ client_id: client.client_id, request_uri: pushed.request_uri })
    }
    const back = await signIn(`${as.authorization_endpoint}?${asked}`, user, { jar })
    const checked = oauth.validateAuthResponse(as, client, back, state)
    const redeem = () => this.withNonce(
      () => oauth.authorizationCodeGrantRequest(as, client, auth, checked, redirect, verifier, { DPoP, ...insecure }),
      async (answer) => {
        const copy = answer.clone()
        const tokens = await oauth.processAuthorizationCodeResponse(as, client, answer, { expectedNonce: nonce, requireIdToken: true })
        await oauth.validateApplicationLevelSignature(as, answer, insecure)
        assert.match(copy.headers.get('cache-control'), /no-store/)
        return tokens
      })
    const tokens = await redeem()
    return { back, tokens, claims: oauth.getValidatedIdTokenClaims(tokens), DPoP, again: redeem }
  },
  refresh(at, token, { DPoP } = {}) {
    const { as, client, auth } = at
    return this.withNonce(
      () => oauth.refreshTokenGrantRequest(as, client, auth, token, { DPoP, ...insecure }),
      (answer) => oauth.processRefreshTokenResponse(as, client, answer))
  },
  userinfo(at, login) {
    const { as, client } = at
    return this.withNonce(
      () => oauth.userInfoRequest(as, client, login.tokens.access_token, { DPoP: login.DPoP, ...insecure }),
      async (answer) => {
        const told = await oauth.processUserInfoResponse(as, client, login.claims.sub, answer)
        if (client.userinfo_signed_response_alg) await oauth.validateApplicationLevelSignature(as, answer, insecure)
        return told
      })
  },
  async introspect({ as, client, auth }, token) {
    const signed = { requestJwtResponse: Boolean(client.introspection_signed_response_alg), ...insecure }
    const answer = await oauth.introspectionRequest(as, client, auth, token, signed)
    const told = await oauth.processIntrospectionResponse(as, client, answer)
    if (signed.requestJwtResponse) await oauth.validateApplicationLevelSignature(as, answer, insecure)
    return told
  },
  revoke: async ({ as, client, auth }, token) => oauth.processRevocationResponse(await oauth.revocationRequest(as, client, auth, token, insecure)),
  async register(metadata, initialAccessToken, key = {}) {
    const as = await this.metadata('oauth2')
    const client = await oauth.processDynamicClientRegistrationResponse(await oauth.dynamicClientRegistrationRequest(as, metadata, { initialAccessToken, ...insecure }))
    return { as, client, auth: this.methods[client.token_endpoint_auth_method]({ ...client, ...key }) }
  },
  clientCredentials: async ({ as, client, auth }, parameters) =>
    oauth.processClientCredentialsResponse(as, client, await oauth.clientCredentialsGrantRequest(as, client, auth, parameters, insecure)),
  dpopKeys: (alg) => oauth.generateKeyPair(alg),
}

export const libraries = [openidClient, webapi]
