package main

import (
	"fmt"
	"runtime"
	"sort"
	"sync"
	"time"
)

type node struct{ left, right *node }

func tree(depth int) *node {
	if depth == 0 {
		return &node{}
	}
	return &node{tree(depth - 1), tree(depth - 1)}
}

func (n *node) count() int {
	if n.left == nil {
		return 1
	}
	return 1 + n.left.count() + n.right.count()
}

func main() {
	results := make(chan int, 100)
	var group sync.WaitGroup
	for i := 0; i < 1000; i++ {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			defer func() { recover(); results <- tree(n % 8).count() }()
			var missing *node
			_ = missing.left // A SIGSEGV that the runtime turns into a panic.
		}(i)
	}
	go func() { group.Wait(); close(results) }()
	sum := 0
	for n := range results {
		sum += n
	}
	// A loop without calls is preempted by a signal.
	var spinning sync.WaitGroup
	for i := 0; i < 4; i++ {
		spinning.Add(1)
		go func() {
			defer spinning.Done()
			x := 0
			for j := 0; j < 100000000; j++ {
				x += j
			}
			if x == 1 {
				panic(x)
			}
		}()
	}
	time.Sleep(time.Millisecond)
	runtime.GC()
	spinning.Wait()
	words := []string{"b", "c", "a"}
	sort.Strings(words)
	fmt.Println(sum, words)
}
