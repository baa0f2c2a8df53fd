// Clients without a browser, which poll until somebody has decided at the server's pages.

import { address, newClient } from '../lib/keyraft.mjs'

const metadata = await (await fetch(address + '/.well-known/openid-configuration')).json()
const device = 'urn:ietf:params:oauth:grant-type:device_code'
const ciba = 'urn:openid:params:grant-type:ciba'

const post = async (url, client, parameters) => {
  const secret = client.client_secret
  const answer = await fetch(url, {
    method: 'POST',
    headers: secret && { authorization: `Basic ${Buffer.from(`${client.client_id}:${secret}`).toString('base64')}` },
    body: new URLSearchParams({ ...parameters, ...(!secret && { client_id: client.client_id }) }),
  })
  return answer.json()
}

// poll asks once. error says why there is nothing; sub is whose the tokens are.
const poll = (client, parameters) => async () => {
  const answer = await post(metadata.token_endpoint, client, parameters)
  return { error: answer.error, sub: answer.id_token && JSON.parse(Buffer.from(answer.id_token.split('.')[1], 'base64url')).sub, tokens: answer }
}

// newDevice makes a client as televisions are; begin starts a request of it.
export async function newDevice(members) {
  const client = await newClient({
    client_name: 'Television', token_endpoint_auth_method: 'none', grant_types: [device, 'refresh_token'], response_types: [], redirect_uris: undefined, scope: 'openid profile email offline_access', ...members,
  })
  const begin = async (parameters = { scope: 'openid profile' }) => {
    const begun = await post(metadata.device_authorization_endpoint, client, parameters)
    return { ...begun, poll: poll(client, { grant_type: device, device_code: begun.device_code }) }
  }
  return { client, begin, page: new URL(metadata.device_authorization_endpoint).origin + '/device' }
}

// newBank makes a client that knows its users by name; begin asks one of them.
export async function newBank(members) {
  const client = await newClient({ client_name: 'Bank', grant_types: [ciba, 'refresh_token'], response_types: [], redirect_uris: undefined, scope: 'openid profile', ...members })
  const begin = async (user, parameters) => {
    const begun = await post(metadata.backchannel_authentication_endpoint, client, { scope: 'openid profile', login_hint: user.username, ...parameters })
    return { ...begun, poll: poll(client, { grant_type: ciba, auth_req_id: begun.auth_req_id }) }
  }
  return { client, begin, page: new URL(metadata.backchannel_authentication_endpoint).origin + '/requests' }
}
