// What users hold: an authenticator app, and the pages at which they set it up.

import { createHmac } from 'node:crypto'
import { address } from '../lib/keyraft.mjs'
import { enter, heading, press } from './browser.mjs'

const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'
const step = 30 // seconds

// Authenticator makes the codes of a secret (RFC 6238). A server takes each once and none
// before it, and one step of drift: so the next code is that of now, or of the step
// after the last one. Two are good at any moment.
export class Authenticator {
  constructor(secret) {
    const bits = [...secret.replace(/[ =]/g, '')].map((c) => letters.indexOf(c).toString(2).padStart(5, '0')).join('')
    this.key = Buffer.from(bits.match(/.{8}/g).map((b) => parseInt(b, 2)))
    this.used = 0
  }

  at(count) {
    const counter = Buffer.alloc(8)
    counter.writeBigUInt64BE(BigInt(count))
    const sum = createHmac('sha1', this.key).update(counter).digest()
    const offset = sum.at(-1) & 15
    return String((sum.readUInt32BE(offset) & 0x7fffffff) % 1e6).padStart(6, '0')
  }

  // code is the next one that is good.
  code() {
    this.used = Math.max(Math.floor(Date.now() / 1000 / step), this.used + 1)
    return this.at(this.used)
  }

  // refused takes back that the last code was used.
  refused() { this.used-- }

  // last is the code that was used.
  last() { return this.at(this.used) }

  // wrong is a code that is none of any moment near.
  wrong() {
    const now = Math.floor(Date.now() / 1000 / step)
    const near = [-2, -1, 0, 1, 2, 3].map((n) => this.at(now + n))
    return ['000000', '111111', '222222', '333333', '444444', '555555', '666666'].find((code) => !near.includes(code))
  }
}

// openAccount signs in at the account page.
export async function openAccount(window, user) {
  await window.goto(`${address}/account`)
  await enter(window, user)
  await heading(window, 'Your account')
}

// scan reads the secret that a page shows, by the word before it.
export async function scan(window, word = 'Secret:') {
  return new Authenticator(await window.getByText(word).locator('code').innerText())
}

// addAuthenticator sets one up from the account page.
export async function addAuthenticator(window) {
  await window.getByRole('link', { name: 'Set up an authenticator app' }).click()
  await heading(window, 'Set up an authenticator app')
  const app = await scan(window)
  await window.getByLabel('Code of the app').fill(app.code())
  await press(window, 'Confirm')
  await heading(window, 'Your account')
  return app
}

// secondStep types a code on the page that wants one.
export async function secondStep(window, code) {
  await heading(window, 'Second step')
  await window.getByLabel('Code', { exact: true }).fill(code)
  await press(window, 'Continue')
}

// plugPasskeys gives a window an authenticator for passkeys, as a device has one that its
// user opens by finger; keys are the passkeys that it has already, members change what it
// can do. keys of the result tells what is in it.
export async function plugPasskeys(window, { keys = [], ...members } = {}) {
  const session = await window.context().newCDPSession(window)
  await session.send('WebAuthn.enable')
  const { authenticatorId } = await session.send('WebAuthn.addVirtualAuthenticator', {
    options: { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true, ...members },
  })
  for (const credential of keys) await session.send('WebAuthn.addCredential', { authenticatorId, credential })
  return {
    keys: async () => (await session.send('WebAuthn.getCredentials', { authenticatorId })).credentials,
  }
}
