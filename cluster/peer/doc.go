// Package peer is generated from peer.proto: the messages and the gRPC service
// by which the nodes of one cluster speak to each other over the cluster port.
package peer
