// A client that only listens, and reads what comes as any JavaScript client does.

import WebSocket from 'ws'
import { serve } from './lines.mjs'

const sockets = new Map()

serve({
  /** Connect, and send some messages. */
  open: ({ name, url, hello }) => new Promise((resolve, reject) => {
    const socket = new WebSocket(url)
    const heard = { socket, count: 0, fault: null }
    sockets.set(name, heard)
    socket.on('open', () => {
      for (const message of hello) socket.send(JSON.stringify(message))
      resolve()
    })
    socket.on('error', error => {
      heard.fault ??= String(error)
      reject(error)
    })
    socket.on('close', code => { heard.closed = code })
    socket.on('message', (data, isBinary) => {
      heard.count++
      try {
        if (isBinary || typeof JSON.parse(data.toString()).type !== 'string') throw new TypeError('this is no message')
      } catch (error) {
        heard.fault ??= `${error} in ${data.toString('hex')}`
      }
    })
  }),

  /** How many messages came, what was wrong with one, and whether the connection was closed. */
  heard: ({ name }) => {
    const { count, fault, closed = null } = sockets.get(name)
    return { count, fault, closed }
  },

  close: ({ name }) => sockets.get(name).socket.close()
})
