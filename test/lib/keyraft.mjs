// What every suite needs of a server: who it is, users and clients of one's own, and a
// browser without script. The server runs already: KEYRAFT_ADDR and KEYRAFT_TOKEN say
// where and by which admin token, as for the command line. Each suite makes users and
// clients with names of its own, so a server may serve many runs.

import { randomBytes } from 'node:crypto'

const missing = (name) => {
  throw new Error(`${name} is not set: start a server (make run prints its address and admin token) and set KEYRAFT_ADDR and KEYRAFT_TOKEN, or run make interop`)
}

export const address = process.env.KEYRAFT_ADDR ?? missing('KEYRAFT_ADDR')
const token = process.env.KEYRAFT_TOKEN ?? missing('KEYRAFT_TOKEN')

// settings changes the tenant for the whole run; lists grow.
export async function settings(members) {
  const now = await admin('GET', '/tenants/default')
  const patch = Object.fromEntries(Object.entries(members).map(([name, value]) => [name, Array.isArray(value) ? [...new Set([...(now[name] ?? []), ...value])] : value]))
  return admin('PATCH', '/tenants/default', patch)
}

// admin calls the admin API; a refusal is an error that holds what the server said.
export async function admin(method, path, body) {
  const answer = await fetch(address + '/admin/v1' + path, {
    method,
    headers: { authorization: `Bearer ${token}`, ...(body && { 'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json' }) },
    body: body && JSON.stringify(body),
  })
  const text = await answer.text()
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`)
  return text && JSON.parse(text)
}

const fresh = () => randomBytes(6).toString('hex')

// newUser makes a user with every kind of claim; members change it.
export async function newUser(members = {}) {
  const username = `user-${fresh()}`
  const password = randomBytes(12).toString('base64url')
  const user = await admin('POST', '/users', {
    username, password, email: `${username}@example.com`, email_verified: true, name: 'Ada Lovelace', given_name: 'Ada', family_name: 'Lovelace', ...members,
  })
  return { ...user, password }
}

export const redirect = 'https://app.example/cb'

// newClient makes a client for logins; members change it, undefined takes one out.
export function newClient(members = {}) {
  return admin('POST', '/clients', {
    client_id: `client-${fresh()}`, client_name: 'Weather', redirect_uris: [redirect],
    grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'], scope: 'openid profile email offline_access', ...members,
  })
}

// signIn goes to a URL as a browser without script would, fills in whatever pages come,
// and gives the first URL outside of the server, the request of a form that goes there, or
// the last page of the server's own, at which there is nothing to send any more.
export async function signIn(url, user, { decision = 'allow', jar = new Map() } = {}) {
  let request = { url: new URL(url), method: 'GET' }
  let decided = false
  for (let hop = 0; hop < 12; hop++) {
    if (request.url.origin !== new URL(address).origin) return request.body ? new Request(request.url, request) : request.url
    const answer = await send(request, jar)
    const to = answer.headers.get('location')
    if (to) {
      request = { url: new URL(to, request.url), method: 'GET' }
      continue
    }
    const page = await answer.text()
    if (decided && answer.ok && !page.includes('<form')) return page
    if (!page.includes('<form')) throw new Error(`${request.url.pathname} is no page with a form: ${answer.status} ${page}`)
    const [action, fields] = formOf(page)
    if (page.includes('name="password"')) {
      fields.set('username', user.username)
      fields.set('password', user.password)
    } else if (page.includes('name="decision"')) {
      fields.set('decision', decision)
      decided = true
    }
    request = { url: new URL(action, request.url), method: 'POST', body: fields }
  }
  throw new Error('the login came to no end')
}

async function send({ url, method, body }, jar) {
  const headers = { cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; ') }
  if (body) Object.assign(headers, { origin: url.origin, 'sec-fetch-site': 'same-origin' })
  const answer = await fetch(url, { method, body, headers, redirect: 'manual' })
  for (const line of answer.headers.getSetCookie()) {
    const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)
    if (value === '') jar.delete(name)
    else jar.set(name, value)
  }
  return answer
}

function formOf(page) {
  const action = text(/<form [^>]*action="([^"]*)"/.exec(page)[1])
  const fields = new URLSearchParams()
  for (const [tag] of page.matchAll(/<input [^>]*value="[^>]*>/g)) { // those with something in them
    fields.append(text(/ name="([^"]*)"/.exec(tag)[1]), text(/ value="([^"]*)"/.exec(tag)[1]))
  }
  return [action, fields]
}

const text = (html) => html.replace(/&#(\d+);/g, (_, n) => String.fromCodePoint(n)).replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&quot;', '"').replaceAll('&amp;', '&')
