// One Chromium for the tests of a process. Each connection is a test, with commands and pages of its own; a page has a
// browser profile of its own unless it shares another page's. Prints its port, and ends with its standard input.

import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { createServer } from 'node:net'
import { chromium } from 'playwright-core'
import { carryOut, emitTo } from './lines.mjs'

const args = [
  '--disable-quic',
  // WebRTC on a machine without a network, where no name of the form <uuid>.local can be looked up.
  '--allow-loopback-in-peer-connection',
  '--disable-features=WebRtcHideLocalIpsWithMdns'
]
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args, chromiumSandbox: false })
const axe = await readFile(createRequire(import.meta.url).resolve('axe-core'), 'utf8')

const test = async socket => {
  const emit = emitTo(socket)
  const contexts = []
  const pages = new Map()
  const requests = []

  const profile = async (shared, script, options) => {
    if (shared !== undefined) return pages.get(shared).context()
    const context = await browser.newContext(options)
    contexts.push(context)
    context.setDefaultTimeout(55_000) // a little less than PATIENCE of harness.py
    if (script !== undefined) await context.addInitScript(script)
    return context
  }

  const commands = {
    /** Open an address; `profileOf` is a page whose profile this one shares, `script` runs before those of the page.
        With `clock`, `forward` works. Requests for `held` wait for `release`. */
    open: async ({ page: name, url, profileOf, script, clock, held, ...options }) => {
      const page = await (await profile(profileOf, script, options)).newPage()
      if (held !== undefined) await page.route(held, route => requests.push(route))
      if (clock) await page.clock.install()
      pages.set(name, page)
      page.on('console', message => message.type() === 'error' && emit('complained', { page: name, text: message.text() }))
      page.on('pageerror', error => emit('complained', { page: name, text: String(error) }))
      await page.goto(url, { waitUntil: held === undefined ? 'load' : 'commit' })
    },

    /** Let the requests of a page through that were held, and all later ones. */
    release: async ({ page: name }) => {
      await Promise.all(requests.splice(0).map(request => request.continue()))
      await pages.get(name).unrouteAll()
    },

    /** Answer the POSTs of a page to an address in the place of the server. */
    answer: ({ page, url, status, contentType, body }) => pages.get(page).route(url, route =>
      route.request().method() === 'POST' ? route.fulfill({ status, contentType, body }) : route.fallback()),

    /** Call a method of Playwright's page. */
    page: async ({ page, method, args }) => {
      const value = await pages.get(page)[method](...args)
      return value === null || typeof value !== 'object' || Array.isArray(value) ? value : undefined
    },

    /** Let time pass on a page: its timers come early. */
    forward: ({ page, milliseconds }) => pages.get(page).clock.fastForward(milliseconds),

    /** Wait until an element is shown, with this text in it if one is given. */
    shows: ({ page, selector, text }) => pages.get(page).locator(selector, { hasText: text }).first().waitFor(),

    /** Wait until no such element is shown. */
    hides: ({ page, selector, text }) => pages.get(page).locator(selector, { hasText: text }).first().waitFor({ state: 'hidden' }),

    /** Drag an element. */
    drag: async ({ page: name, selector, to: [x, y] }) => {
      const page = pages.get(name)
      const box = await page.locator(selector).first().boundingBox()
      await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2)
      await page.mouse.down()
      await page.mouse.move(x, y, { steps: 8 })
      await page.mouse.up()
    },

    /** The rules of accessibility that a page breaks, with the elements that do. */
    accessibility: async ({ page }) => {
      await pages.get(page).evaluate(axe)
      const { violations } = await pages.get(page).evaluate(() => globalThis.axe.run())
      return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`)
    }
  }

  await carryOut(commands, socket, emit)
  await Promise.all(contexts.map(context => context.close()))
  socket.end()
}

const listener = createServer({ allowHalfOpen: true }, test).listen(0, '127.0.0.1')
await once(listener, 'listening')
console.log(listener.address().port)
await once(process.stdin.resume(), 'end')
await browser.close()
process.exit(0)
