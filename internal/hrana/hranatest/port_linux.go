package hranatest

import (
	"net"
	"os"
	"strconv"
	"syscall"
)

// holdPort binds a socket to a free port and does not listen: connections are refused. As it has
// SO_REUSEADDR, others that have it too may bind to the port by its number and listen there, but
// bind to port 0, and connect, never choose it.
func holdPort() (*port, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	held := os.NewFile(uintptr(fd), "port")
	err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var name syscall.Sockaddr
	if err == nil {
		name, err = syscall.Getsockname(fd)
	}
	if err != nil {
		held.Close()
		return nil, os.NewSyscallError("bind", err)
	}
	return &port{net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port)), held}, nil
}
