/*
 * The hop mark: how many relays a frame of ours has passed, in the Identification
 * of its IPv4 header. The field has no meaning in a datagram that is marked "do
 * not fragment" and is no fragment (RFC 6864 section 4.1). The kernel counts the
 * low bits up over the segments of a super-frame, of which there are 64 at most.
 *
 *   15        9 8     6 5               0
 *   | signature |  hop  | 0, or segment  |
 */
#ifndef MCR_HOP_H
#define MCR_HOP_H

#define MCR_HOP_SIGNATURE 0xb400u /* top 7 bits of Identification */
#define MCR_HOP_SIGNATURE_MASK 0xfe00u
#define MCR_HOP_SHIFT 6
#define MCR_HOP_MAX 7

#endif
