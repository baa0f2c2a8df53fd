// The two libraries behind one shape, so that a suite says once what must hold: discover
// finds the server, login goes from the authorization request to checked tokens.

import assert from 'node:assert/strict'
import { compactDecrypt } from 'jose'
import * as oauth from 'oauth4webapi'
import * as oidc from 'openid-client'
import { address, redirect, signIn } from '../lib/keyraft.mjs'

const insecure = { [oauth.allowInsecureRequests]: true } // the server is one of loopback
const scope = 'openid profile email offline_access'
const exchange = 'urn:ietf:params:oauth:grant-type:token-exchange'

// decrypter is what oauth4webapi calls for a JWE.
const decrypter = ({ key }) => async (jwe) => new TextDecoder().decode((await compactDecrypt(jwe, key)).plaintext)

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
    tls_client_auth: () => oidc.TlsClientAuth(),
    self_signed_tls_client_auth: () => oidc.TlsClientAuth(),
    none: () => oidc.None(),
  },
  // discover fetches the metadata; the result is what the other functions take. jarm and
  // hybrid say how the answers come, decrypt is the key for those that are encrypted, and
  // fetch another way to send requests.
  async discover(client, { jarm = false, hybrid = false, decrypt, fetch } = {}) {
    const metadata = { ...client }
    for (const name of ['client_secret', 'key', 'kid']) delete metadata[name]
    const execute = [oidc.allowInsecureRequests, oidc.enableNonRepudiationChecks] // signatures are checked too, though TLS would do
    if (jarm) execute.push(oidc.useJwtResponseMode)
    if (hybrid) execute.push(oidc.useCodeIdTokenResponseType, oidc.enableDetachedSignatureResponseChecks)
    if (decrypt) execute.push((config) => oidc.enableDecryptingResponses(config, undefined, decrypt))
    const options = { execute, ...(fetch && { [oidc.customFetch]: fetch }) }
    const config = await oidc.discovery(new URL(address), client.client_id, metadata, this.methods[client.token_endpoint_auth_method](client), options)
    return { config, client, as: config.serverMetadata() }
  },
  // login goes from the request to checked tokens; the request is pushed with par, bound
  // to the keys of dpop, signed by the key of object, answered by mode.
  async login(at, user, { par = false, dpop, object, mode, parameters = {}, jar } = {}) {
    const DPoP = dpop && oidc.getDPoPHandle(at.config, dpop)
    const verifier = oidc.randomPKCECodeVerifier()
    const nonce = oidc.randomNonce()
    const state = oidc.randomState()
    const asked = {
      redirect_uri: redirect, scope, code_challenge: await oidc.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256', nonce, state, ...parameters,
    }
    let url = oidc.buildAuthorizationUrl(at.config, asked)
    if (mode) url.searchParams.set('response_mode', mode)
    if (object) url = await oidc.buildAuthorizationUrlWithJAR(at.config, url.searchParams, object)
    if (par) url = await oidc.buildAuthorizationUrlWithPAR(at.config, url.searchParams, { DPoP })
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
  exchange: (at, parameters) => oidc.genericGrantRequest(at.config, exchange, parameters),
  // device and backchannel begin a request; poll waits until there are tokens.
  async device(at, parameters) {
    const begun = await oidc.initiateDeviceAuthorization(at.config, parameters)
    return { ...begun, poll: () => oidc.pollDeviceAuthorizationGrant(at.config, begun) }
  },
  async backchannel(at, parameters) {
    const begun = await oidc.initiateBackchannelAuthentication(at.config, parameters)
    return { ...begun, poll: () => oidc.pollBackchannelAuthenticationGrant(at.config, begun) }
  },
  dpopKeys: (alg) => oidc.randomDPoPKeyPair(alg),
}

const webapi = {
  name: 'oauth4webapi',
  methods: {
    client_secret_basic: (c) => oauth.ClientSecretBasic(c.client_secret),
    client_secret_post: (c) => oauth.ClientSecretPost(c.client_secret),
    client_secret_jwt: (c) => oauth.ClientSecretJwt(c.client_secret),
    private_key_jwt: (c) => oauth.PrivateKeyJwt({ key: c.key, kid: c.kid }),
    tls_client_auth: () => oauth.TlsClientAuth(),
    self_signed_tls_client_auth: () => oauth.TlsClientAuth(),
    none: () => oauth.None(),
  },
  async metadata(algorithm) {
    const issuer = new URL(address)
    return oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm, ...insecure }))
  },
  async discover(client, { jarm = false, hybrid = false, decrypt, fetch } = {}) {
    const how = { ...insecure, ...(fetch && { [oauth.customFetch]: fetch }), ...(decrypt && { [oauth.jweDecrypt]: decrypter(decrypt) }) }
    return { as: await this.metadata('oauth2'), client, auth: this.methods[client.token_endpoint_auth_method](client), how, jarm, hybrid }
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
  async login(at, user, { par = false, dpop, object, mode, parameters = {}, jar } = {}) {
    const { as, client, auth, how } = at
    const DPoP = dpop && oauth.DPoP(client, dpop)
    const verifier = oauth.generateRandomCodeVerifier()
    const nonce = oauth.generateRandomNonce()
    const state = oauth.generateRandomState()
    let asked = new URLSearchParams({
      client_id: client.client_id, redirect_uri: redirect, response_type: at.hybrid ? 'code id_token' : 'code', scope, ...(at.jarm && { response_mode: 'jwt' }), ...(mode && { response_mode: mode }),
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256', nonce, state, ...parameters,
    })
    if (object) asked = new URLSearchParams({ client_id: client.client_id, request: await oauth.issueRequestObject(as, client, asked, object) })
    if (par) {
      const pushed = await this.withNonce(
        () => oauth.pushedAuthorizationRequest(as, client, auth, asked, { DPoP, ...how }),
        (answer) => oauth.processPushedAuthorizationResponse(as, client, answer))
      asked = new URLSearchParams({ client_id: client.client_id, request_uri: pushed.request_uri })
    }
    const back = await signIn(`${as.authorization_endpoint}?${asked}`, user, { jar })
    const checked = await this.answered(at, back, nonce, state)
    const redeem = () => this.withNonce(
      () => oauth.authorizationCodeGrantRequest(as, client, auth, checked, redirect, verifier, { DPoP, ...how }),
      async (answer) => {
        const copy = answer.clone()
        const tokens = await oauth.processAuthorizationCodeResponse(as, client, answer, { expectedNonce: nonce, requireIdToken: true, ...how })
        await oauth.validateApplicationLevelSignature(as, answer, insecure)
        assert.match(copy.headers.get('cache-control'), /no-store/)
        return tokens
      })
    const tokens = await redeem()
    return { back, tokens, claims: oauth.getValidatedIdTokenClaims(tokens), DPoP, again: redeem }
  },
  // answered checks what came through the browser.
  async answered({ as, client, how, jarm, hybrid }, back, nonce, state) {
    const parameters = back instanceof Request && !hybrid ? new URLSearchParams(await oauth.formPostResponse(back)) : back
    if (jarm) return oauth.validateJwtAuthResponse(as, client, parameters, state, how)
    if (hybrid) return oauth.validateDetachedSignatureResponse(as, client, parameters, nonce, state, undefined, how)
    return oauth.validateAuthResponse(as, client, parameters, state)
  },
  refresh({ as, client, auth, how }, token, { DPoP } = {}) {
    return this.withNonce(
      () => oauth.refreshTokenGrantRequest(as, client, auth, token, { DPoP, ...how }),
      (answer) => oauth.processRefreshTokenResponse(as, client, answer, how))
  },
  userinfo(at, login) {
    const { as, client, how } = at
    return this.withNonce(
      () => oauth.userInfoRequest(as, client, login.tokens.access_token, { DPoP: login.DPoP, ...how }),
      async (answer) => {
        const told = await oauth.processUserInfoResponse(as, client, login.claims.sub, answer, how)
        if (client.userinfo_signed_response_alg) await oauth.validateApplicationLevelSignature(as, answer, insecure)
        return told
      })
  },
  async introspect({ as, client, auth, how }, token) {
    const signed = { requestJwtResponse: Boolean(client.introspection_signed_response_alg), ...how }
    const answer = await oauth.introspectionRequest(as, client, auth, token, signed)
    const told = await oauth.processIntrospectionResponse(as, client, answer)
    if (signed.requestJwtResponse) await oauth.validateApplicationLevelSignature(as, answer, insecure)
    return told
  },
  revoke: async ({ as, client, auth, how }, token) => oauth.processRevocationResponse(await oauth.revocationRequest(as, client, auth, token, how)),
  async register(metadata, initialAccessToken, key = {}) {
    const as = await this.metadata('oauth2')
    const client = await oauth.processDynamicClientRegistrationResponse(await oauth.dynamicClientRegistrationRequest(as, metadata, { initialAccessToken, ...insecure }))
    return { as, client, auth: this.methods[client.token_endpoint_auth_method]({ ...client, ...key }), how: insecure }
  },
  clientCredentials: async ({ as, client, auth, how }, parameters) =>
    oauth.processClientCredentialsResponse(as, client, await oauth.clientCredentialsGrantRequest(as, client, auth, parameters, how)),
  async exchange({ as, client, auth, how }, parameters) {
    const answer = await oauth.genericTokenEndpointRequest(as, client, auth, exchange, parameters, how)
    return oauth.processGenericTokenEndpointResponse(as, client, answer, { recognizedTokenTypes: { n_a: () => {} } })
  },
  async device({ as, client, auth, how }, parameters) {
    const begun = await oauth.processDeviceAuthorizationResponse(as, client, await oauth.deviceAuthorizationRequest(as, client, auth, parameters, how))
    const poll = async () => oauth.processDeviceCodeResponse(as, client, await oauth.deviceCodeGrantRequest(as, client, auth, begun.device_code, how))
    return { ...begun, poll }
  },
  async backchannel({ as, client, auth, how }, parameters) {
    const begun = await oauth.processBackchannelAuthenticationResponse(as, client, await oauth.backchannelAuthenticationRequest(as, client, auth, parameters, how))
    const poll = async () => oauth.processBackchannelAuthenticationGrantResponse(as, client, await oauth.backchannelAuthenticationGrantRequest(as, client, auth, begun.auth_req_id, how))
    return { ...begun, poll }
  },
  dpopKeys: (alg) => oauth.generateKeyPair(alg),
}

export const libraries = [openidClient, webapi]
