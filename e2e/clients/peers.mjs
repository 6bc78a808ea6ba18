// WebRTC for node, and how peers here connect: directly if they may, since they are on one machine.

import wrtc from '@roamhq/wrtc'

/** Options for simple-peer; `policy: "relay"` without any relay is a network that WebRTC cannot cross. */
export const peerOptions = (policy = 'all', iceServers = []) =>
  ({ wrtc, config: { iceServers, iceTransportPolicy: policy } })

// simple-peer warns of candidates that come for a connection it has just closed: nothing is wrong then.
const { warn } = console
console.warn = (...words) => words[0] === 'Ignoring unsupported ICE candidate.' || warn(...words)
