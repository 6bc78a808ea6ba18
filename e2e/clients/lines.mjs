// What all drivers share: commands come in as JSON lines on stdin, events go out as JSON lines on stdout.

import { createInterface } from 'node:readline'

/** Tell the test what happened. */
export const emit = (event, fields = {}) => {
  process.stdout.write(JSON.stringify({ event, ...fields }) + '\n')
}

/**
 * Run commands until stdin ends: `{id, command, ...arguments}` is answered by `{event: "answer", id, value}` or
 * `{event: "failed", id, error}`. A command that waits does not hold up the ones after it.
 */
export const serve = commands => {
  const run = async line => {
    const { id, command, ...args } = JSON.parse(line)
    try {
      emit('answer', { id, value: await commands[command](args) })
    } catch (error) {
      emit('failed', { id, error: String(error?.stack ?? error) })
    }
  }
  createInterface({ input: process.stdin }).on('line', run).on('close', () => process.exit(0))
}

/** Resolve as soon as `predicate` holds; look now and then whenever `source` emits `event`. */
export const until = (source, event, predicate) => new Promise(resolve => {
  const look = () => {
    if (!predicate()) return
    source.off(event, look)
    resolve()
  }
  source.on(event, look)
  look()
})
