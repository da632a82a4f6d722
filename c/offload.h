/*
 * The offload header of PACKET_VNET_HDR, for kernel headers older than the kernel. virtio_net.h
 */
#ifndef MCR_OFFLOAD_H
#define MCR_OFFLOAD_H

#include <linux/virtio_net.h>

/* A super-frame: the payload behind one UDP header is cut at gso_size. */
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5 /* Linux 6.2 */
#endif

#endif
