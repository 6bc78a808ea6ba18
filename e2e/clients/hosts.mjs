// Loaded before a driver: every host below a test's domain is this machine.

import dns from 'node:dns'

const { lookup } = dns
const domains = ['noodl.example', 'localhost']

dns.lookup = (host, ...more) =>
  lookup(domains.some(domain => host === domain || host.endsWith(`.${domain}`)) ? '127.0.0.1' : host, ...more)
