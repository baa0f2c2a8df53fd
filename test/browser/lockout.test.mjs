// Wrong passwords: a stranger locks strangers out, not the browser that the user knows.

import { after, before, describe, test } from 'node:test'
import { admin, newUser } from '../lib/keyraft.mjs'
import { startApp } from './app.mjs'
import { enter, heading, launch, press, quit, told, visit, withoutScript } from './browser.mjs'
import { addAuthenticator, openAccount, secondStep } from './factors.mjs'

let app
before(async () => { await launch(); app = await startApp({ skip_consent: true }) })
after(async () => { await quit(); await app.close() })

const wrong = 'The user name or the password is wrong, or too many were tried. Wait some minutes and try again.'

for (const { way, ...options } of withoutScript) {
  describe(way, () => {
    const open = async (t) => {
      const window = await visit(t, options)
      await window.goto(app.start())
      return window
    }

    test('ten wrong passwords lock strangers out; the user goes on where they were; an operator unlocks', async (t) => {
      const user = await newUser()
      const own = await open(t)
      await enter(own, user)
      await heading(own, 'Signed in')

      const stranger = await open(t)
      for (let n = 0; n < 10; n++) {
        await enter(stranger, user, `guess number ${n}`)
        await told(stranger, wrong)
      }
      await enter(stranger, user) // the right one: locked, and nothing tells that from a wrong one
      await told(stranger, wrong)
      const another = await open(t)
      await enter(another, user)
      await told(another, wrong)

      await own.goto(app.start())
      await heading(own, 'Signed in')
      await own.goto(app.start({ prompt: 'login' }))
      await enter(own, user)
      await heading(own, 'Signed in')

      await admin('DELETE', `/users/${user.id}/lockout`)
      await enter(another, user)
      await heading(another, 'Signed in')
    })

    test('a name that nobody has is told of in the same words', async (t) => {
      const window = await open(t)
      await enter(window, { username: 'nobody-at-all', password: 'whatever it is' })
      await told(window, wrong)
    })

    test('ten wrong codes lock the second step, whatever the password', async (t) => {
      const user = await newUser()
      const account = await visit(t, options)
      await openAccount(account, user)
      const phone = await addAuthenticator(account)
      const window = await open(t)
      await enter(window, user)
      for (let n = 0; n < 10; n++) {
        await secondStep(window, phone.wrong())
        await told(window, 'too many were tried')
      }
      await secondStep(window, phone.code())
      await told(window, 'too many were tried')
      phone.refused()
      await press(window, 'Cancel')
      await heading(window, 'Refused')
      const again = await open(t)
      await enter(again, user)
      await secondStep(again, phone.code()) // good but for the lock
      await told(again, 'too many were tried')
      phone.refused()
      await admin('DELETE', `/users/${user.id}/lockout`)
      await secondStep(again, phone.code())
      await heading(again, 'Signed in')
    })
  })
}
