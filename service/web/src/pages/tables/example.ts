/** A table that can be filled on a laptop in some minutes, once its teacher is named. */
export const EXAMPLE = `name: digits, three seeds
job:
  data: {type: digits-scenes-v1, train_images: 128, val_images: 64, image_size: 96}
  schedule: {steps: 200, batch_size: 8}
teacher: {job: JOB_ID_OF_THE_TEACHER}
students:
  width 8: {backbone: tiny, width: 8, fpn_channels: 16, stacked_convs: 1, strides: [8, 16]}
methods:
  labels: []
  bckd: [{type: bckd}]
  pkd: [{type: pkd}]
seeds: [0, 1, 2]
metric: AP
published: {}          # width 8: {labels: 30.0, bckd: 34.0}
tolerance: 0.5
`;
