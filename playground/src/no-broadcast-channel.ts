// Takes the place of lib0/broadcastchannel, see vite.config.ts: nothing is sent to other windows of this browser.

export const subscribe = (_room: string, subscriber: unknown) => subscriber
export const unsubscribe = () => false
export const publish = () => {}
