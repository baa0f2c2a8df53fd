// A small application on loopback, as a developer writes one by hand: it sends its users
// to the authorization endpoint, takes the answer however it comes, redeems the code,
// and says on a page what came of it. It is of another site than the server (localhost
// and 127.0.0.1), so cookies and forms are those of real life.

import { createHash, randomBytes } from 'node:crypto'
import http from 'node:http'
import https from 'node:https'
import { address, newClient } from '../lib/keyraft.mjs'

const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`)
const page = (title, body = '') => `<!doctype html><html lang="en"><meta charset="utf-8"><link rel="icon" href="data:,"><title>${escape(title)}</title><h1>${escape(title)}</h1>${body}`
const form = (action, fields) =>
  `<form method="post" action="${escape(action)}">${[...fields].map(([name, value]) => `<input type="hidden" name="${escape(name)}" value="${escape(value)}">`).join('')}<button>Go</button></form>`

// listen serves on a free port of loopback; tls, when given, is its certificate.
function listen(serve, tls) {
  const handle = (request, response) => serve(request, response).catch((err) => response.writeHead(500).end(err.stack))
  const server = tls ? https.createServer(tls, handle) : http.createServer(handle)
  return new Promise((resolve) => server.listen(0, 'localhost', () => resolve(server)))
}

async function body(request) {
  let text = ''
  for await (const chunk of request) text += chunk
  return new URLSearchParams(text)
}

// startApp registers a client and serves it; members change the client, redirect_uris are
// further ones. With framed it is told of logouts by a frame.
export async function startApp({ redirect_uris = [], framed = false, ...members } = {}) {
  const app = { begun: new Map(), got: [], told: [], onwards: '' }
  const server = await listen((request, response) => app.serve(request, response))
  app.url = `http://localhost:${server.address().port}`
  app.client = await newClient({ redirect_uris: [`${app.url}/cb`, `${app.url}/onwards`, ...redirect_uris], post_logout_redirect_uris: [`${app.url}/bye`], ...(framed && { frontchannel_logout_uri: `${app.url}/told`, frontchannel_logout_session_required: true }), ...members })
  app.metadata = await (await fetch(address + '/.well-known/openid-configuration')).json()
  app.close = () => new Promise((resolve) => { server.close(resolve); server.closeAllConnections() })

  // parameters are those of a new authorization request.
  app.parameters = (more = {}) => {
    const state = randomBytes(16).toString('base64url')
    const verifier = randomBytes(32).toString('base64url')
    app.begun.set(state, verifier)
    const all = {
      client_id: app.client.client_id, redirect_uri: `${app.url}/cb`, response_type: 'code', scope: 'openid profile email', state,
      code_challenge: createHash('sha256').update(verifier).digest('base64url'), code_challenge_method: 'S256', ...more,
    }
    return new URLSearchParams(Object.entries(all).filter(([, value]) => value !== undefined))
  }
  app.start = (more) => `${app.metadata.authorization_endpoint}?${app.parameters(more)}`

  // call asks an endpoint of the metadata as this client.
  app.call = async (endpoint, parameters) => {
    const answer = await fetch(app.metadata[endpoint], {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from(`${app.client.client_id}:${app.client.client_secret}`).toString('base64')}` },
      body: new URLSearchParams(parameters),
    })
    return answer.json()
  }
  app.refresh = (tokens) => app.call('token_endpoint', { grant_type: 'refresh_token', refresh_token: tokens.refresh_token })
  app.active = async (token) => (await app.call('introspection_endpoint', { token })).active

  const redeem = async (answer) => {
    if (answer.get('iss') !== app.metadata.issuer) return page('Wrong issuer')
    if (answer.has('error')) return page('Refused', `<p id="error">${escape(answer.get('error'))}</p><p>${escape(answer.get('error_description'))}</p>`)
    const verifier = app.begun.get(answer.get('state'))
    if (!verifier) return page('Wrong state')
    app.begun.delete(answer.get('state'))
    const tokens = await app.call('token_endpoint', { grant_type: 'authorization_code', code: answer.get('code'), redirect_uri: answer.get('at') ?? `${app.url}/cb`, code_verifier: verifier })
    if (!tokens.id_token) return page('No tokens', escape(JSON.stringify(tokens)))
    const claims = JSON.parse(Buffer.from(tokens.id_token.split('.')[1], 'base64url'))
    app.got.push({ tokens, claims })
    return page('Signed in', `<p id="sub">${escape(claims.sub)}</p>`)
  }

  const logoutFields = (hinted) => new URLSearchParams({
    ...(hinted && { id_token_hint: app.got.at(-1).tokens.id_token }), client_id: app.client.client_id, post_logout_redirect_uri: `${app.url}/bye`, state: 'left',
  })
  app.logout = (hinted) => `${app.metadata.end_session_endpoint}?${logoutFields(hinted)}`

  app.serve = async (request, response) => {
    const url = new URL(request.url, app.url)
    const answer = request.method === 'POST' ? await body(request) : url.searchParams
    const html = (text) => response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(text)
    switch (url.pathname) {
      case '/cb':
        app.last = { method: request.method, origin: request.headers.origin, referer: request.headers.referer }
        return html(answer.size ? await redeem(answer) : page('By fragment', `<p id="hash"></p><script>document.getElementById('hash').textContent = location.hash</script>`))
      case '/onwards': // an application whose front end is elsewhere
        return response.writeHead(302, { location: app.onwards }).end()
      case '/post': // a request by a form, of another site for the server
        return html(page('To the login', form(app.metadata.authorization_endpoint, app.parameters({ padding: 'x'.repeat(Number(url.searchParams.get('padding') ?? 0)) || undefined }))))
      case '/leave':
        return html(page('To the logout', form(app.metadata.end_session_endpoint, logoutFields(url.searchParams.has('hinted')))))
      case '/told': // in a frame of the server's last page
        app.told.push(Object.fromEntries(url.searchParams))
        return html(page('Told'))
      case '/bye':
        return html(page('Left', `<p id="state">${escape(url.searchParams.get('state'))}</p>`))
    }
    return response.writeHead(404).end()
  }
  return app
}

// startFrontEnd is a third origin that an application's callback leads on to.
export async function startFrontEnd(tls) {
  const server = await listen(async (request, response) => {
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(page('The front end'))
  }, tls)
  return {
    url: `${tls ? 'https' : 'http'}://localhost:${server.address().port}/`,
    close: () => new Promise((resolve) => { server.close(resolve); server.closeAllConnections() }),
  }
}

