// One Chromium for the tests of a process: prints where browser.mjs connects to it, and ends with its standard input.

import { chromium } from 'playwright-core'

const args = [
  '--disable-quic',
  // WebRTC on a machine without a network, where no name of the form <uuid>.local can be looked up.
  '--allow-loopback-in-peer-connection',
  '--disable-features=WebRtcHideLocalIpsWithMdns'
]
const server = await chromium.launchServer({
  executablePath: process.env.CHROMIUM, args, chromiumSandbox: false, host: '127.0.0.1'
})
process.stdin.resume().on('end', async () => {
  await server.close()
  process.exit(0)
})
console.log(server.wsEndpoint())
