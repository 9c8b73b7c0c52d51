"""A real cluster by kind: nodes with a kubelet, where the operator and the local cloud run as pods.

`cluster` makes it and ends it, `install` brings what runs in it, `node_image` and `kubeadm_images` make the
node's image where kind's published one cannot be pulled. The files of such a node lie in `node/`.
"""
