// The room is in the fragment of the address, which no browser sends to a server: its name is its secret.

export const roomOfAddress = () => new URLSearchParams(location.hash.slice(1)).get('room')

export const addressOf = (room: string) => `#room=${encodeURIComponent(room)}`
