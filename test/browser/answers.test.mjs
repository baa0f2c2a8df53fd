// How a request comes to the server and an answer to the application.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, describe, test } from 'node:test'
import { newUser } from '../lib/keyraft.mjs'
import { startApp, startFrontEnd } from './app.mjs'
import { eachWay, enter, heading, launch, press, quit, signIn, visit } from './browser.mjs'

let app
before(async () => { await launch(); app = await startApp() })
after(async () => { await quit(); await app.close() })

// certificate is that of a front end of https; make interop makes one.
const { KEYRAFT_TEST_CERT: cert, KEYRAFT_TEST_KEY: key } = process.env
const certificate = cert && key && { cert: readFileSync(cert), key: readFileSync(key) }

for (const { way, ...options } of eachWay) {
  const scripted = options.javaScriptEnabled
  describe(way, () => {
    test('form_post goes by itself with script, by a button without', async (t) => {
      const user = await newUser()
      const window = await visit(t, options)
      await window.goto(app.start({ response_mode: 'form_post' }))
      await enter(window, user)
      await press(window, 'Allow')
      if (!scripted) {
        await heading(window, 'One more step')
        await press(window, 'Continue')
      }
      await heading(window, 'Signed in')
      assert.equal(app.last.method, 'POST')
    })

    test('a request by a form of another site asks nothing of who is signed in', async (t) => {
      const user = await newUser()
      const window = await visit(t, options)
      await window.goto(`${app.url}/post`)
      await press(window, 'Go')
      await enter(window, user)
      await press(window, 'Allow')
      await heading(window, 'Signed in')
      await window.goto(`${app.url}/post`)
      await press(window, 'Go')
      await heading(window, 'Signed in')
    })

    test('a form of another site that is too long to become a link is refused with a page', async (t) => {
      const window = await visit(t, { ...options, allowed: /status of 403/ })
      await window.goto(`${app.url}/post?padding=7000`)
      await press(window, 'Go')
      await heading(window, 'This did not work')
    })

    test('a form of another site gets neither login nor consent done', async (t) => {
      const window = await visit(t, { ...options, allowed: /status of 40[03]/ })
      for (const path of ['/login', '/consent']) {
        await window.goto(`${app.url}/bye`)
        await window.setContent(`<form method="post" action="${app.metadata.issuer}${path}"><input name="username" value="a"><input name="password" value="b"><input name="flow" value="x"><input name="decision" value="allow"><button>Go</button></form>`)
        await press(window, 'Go')
        await heading(window, 'This did not work')
      }
    })

    for (const kind of ['http', 'https']) {
      test(`an application whose callback leads on to another origin of ${kind}`, async (t) => {
        if (kind === 'https' && !certificate) {
          assert.notEqual(process.env.KEYRAFT_REQUIRE, 'all', 'KEYRAFT_TEST_CERT and KEYRAFT_TEST_KEY are not set')
          return t.skip('KEYRAFT_TEST_CERT and KEYRAFT_TEST_KEY are not set')
        }
        const front = await startFrontEnd(kind === 'https' ? certificate : undefined)
        t.after(front.close)
        app.onwards = front.url
        const user = await newUser()
        const window = await visit(t, options)
        await window.goto(app.start({ redirect_uri: `${app.url}/onwards` }))
        await enter(window, user) // by the form of the consent page
        await press(window, 'Allow')
        await heading(window, 'The front end')
        await window.goto(app.start({ redirect_uri: `${app.url}/onwards`, prompt: 'login' }))
        await enter(window, user) // by that of the login page
        await heading(window, 'The front end')
        await window.goto(app.start({ redirect_uri: `${app.url}/onwards`, prompt: 'login' }))
        await press(window, 'Cancel')
        await heading(window, 'The front end')
        await window.goto(app.start({ redirect_uri: `${app.url}/onwards`, response_mode: 'form_post' }))
        if (!scripted) await press(window, 'Continue')
        await heading(window, 'The front end')
      })
    }
  })
}

test('fragment', async (t) => {
  const user = await newUser()
  const window = await visit(t)
  await signIn(window, app, user)
  await window.goto(app.start({ response_mode: 'fragment' }))
  await heading(window, 'By fragment')
  const answer = new URLSearchParams((await window.locator('#hash').innerText()).slice(1))
  assert.ok(answer.get('code') && answer.get('state'))
  assert.equal(answer.get('iss'), app.metadata.issuer)
})
